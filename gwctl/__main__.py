from gwctl.main import main

main()
