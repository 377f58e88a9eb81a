"""The checks behind `esci data validate`: one table of what is looked for, and how it is found."""
