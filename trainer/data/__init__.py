"""Where images and labels come from. Everything that is read here is untrusted."""
