"""The descriptions of the API: OpenAPI for its requests, AsyncAPI for its streams."""
