"""How each ecosystem turns a package version into a build. Pure."""
