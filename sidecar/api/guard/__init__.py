"""Who may call what: tokens with scopes, kept hashed in a file, and the table of what each method takes."""
