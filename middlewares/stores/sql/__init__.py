"""The SQL database: connections, tables, versions, identity."""
