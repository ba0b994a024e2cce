"""Mathematics that families of layers share; it holds no layer of its own."""
