"""What a layer is: the frozen value, its context, its calling, its configuration."""
