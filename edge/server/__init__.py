"""The parent process: sockets, workers, reload. The only importer of Granian."""
