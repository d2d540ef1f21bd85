"""Videos and datasets to annotated shards, partitions and batches; drawn people."""
