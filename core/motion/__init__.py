"""How pixels move: adjacent-frame fields, their composition, masks, and where they come from."""
