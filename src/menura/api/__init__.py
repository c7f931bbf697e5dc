"""The HTTP and WebSocket surface: thin routes over the services."""
