"""Networks over a backbone, in torch: what training changes and export writes down."""
