"""What is deployed, and how: presets, approved settings, images, monitoring, keys. `deploy.files` finds all of it."""
