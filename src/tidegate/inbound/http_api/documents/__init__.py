"""The API's own descriptions: OpenAPI for its requests, AsyncAPI for its streams."""
