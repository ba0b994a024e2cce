"""What a layer is: frozen values, contexts, calls, configs."""
