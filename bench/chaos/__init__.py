"""What the live door bears: kills, failing disks, mutated messages, slow neighbours, wrong charsets. `make chaos`."""
