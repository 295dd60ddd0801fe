"""Tests of what surrounds the code: locks, make and CI, packaging, the image, compose."""
