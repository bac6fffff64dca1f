"""Route tables: a RouteConfiguration a listener, or one a scope; a VirtualHost a host; routes as a tree or a list."""
