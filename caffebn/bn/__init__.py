"""What is special here: tools for nets with batch normalisation."""
