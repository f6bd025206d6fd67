"""What people look at in a browser: the money page, the page of a campaign, and reports."""
