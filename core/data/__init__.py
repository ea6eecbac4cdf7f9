"""From videos on a disk to batches of latents: finding and decoding, buckets, shards, the order of an epoch."""
