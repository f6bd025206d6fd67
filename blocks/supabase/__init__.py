"""The Supabase store: campaigns, runs and the ledger in a PostgreSQL that many machines share."""
