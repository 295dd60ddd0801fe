"""The OpenAPI description, written by hand: the routes take raw requests, so nothing could be read off them.

`schema` has what schemas are made of; `*_schemas` describe what goes in and out, `*_routes` the routes that are added
with them, `document` puts it all together.
"""
