"""Composition root of the HTTP process: package services, control API, log."""
