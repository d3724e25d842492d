"""What a person sees of a run: a live table while it goes, a picture afterwards."""
