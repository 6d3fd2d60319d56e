"""Pictures of structures."""
