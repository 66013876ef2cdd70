"""One module per kind of measurement; each says what its rows hold and makes a table of them."""
