"""Lead-generation campaigns as Prefect deployments: JSON in, budgeted and reported runs out."""
