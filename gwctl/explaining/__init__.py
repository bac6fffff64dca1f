"""What `gwctl explain` makes of its options, and how it asks a real Envoy."""
