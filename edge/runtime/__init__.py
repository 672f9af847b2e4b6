"""What a process of the gateway stands on: descriptors, memory, threads, folders, its status."""
