"""The build worker process: jobs behind the build link."""
