"""The registry of head sets: what is published, what differs between two of them, and sets in the forms of others."""
