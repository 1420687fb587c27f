"""The commands of `sessiond`, a module each."""
