import os

# Before grpc is imported: tests start servers beside it, and its fork handlers crash a child between fork and exec.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
