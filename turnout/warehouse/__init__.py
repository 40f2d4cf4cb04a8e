"""The warehouse: PostgreSQL schema ``turnout``, its migrations, partitions and bulk loading."""
