"""Two uploads of one photo, together: what the provider learns when models, delegates or services differ a little.

The attack is the best there is: the provider knows both models and every candidate photo, and weighs the candidates by the
exact likelihood of what it received. Noise of version 1 (contract schema 1) is simulated. docs/threat-model.md has the
figures. Run it from the root of a checkout, on two exports of one data set (other epochs, or another seed):

    python -m studies.two_uploads.last_epoch RUN EXPORT_B
    python -m studies.two_uploads EXPORT_A EXPORT_B --photos 500 --json two-uploads.json
"""
