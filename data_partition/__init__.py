"""Videos and datasets to annotated shards, partitions and batches; synthetic faces."""
