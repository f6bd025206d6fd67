"""What Prefect loads through the ``prefect.collections`` entry point: our blocks, and the campaign worker.

Prefect loads it wherever it starts: in the server, which then knows how to send our mails, and in
``prefect worker start --pool campaigns``, which then knows our worker.
"""

from prefect_campaigns.blocks.email import CampaignEmail
from prefect_campaigns.blocks.supabase_credentials import SupabaseCredentials
from prefect_campaigns.deployments.running.worker import CampaignWorker

__all__ = ["CampaignEmail", "CampaignWorker", "SupabaseCredentials"]
