"""Methods of fusion, a file each."""
