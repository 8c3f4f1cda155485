"""One source, a file or a hub data set, to rows under the column names of the table."""
