"""The tutorial: notebooks as scripts, their copies for readers, and the pictures they draw."""
