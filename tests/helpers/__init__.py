"""What several tests share: items on disk, servers, scripts."""
