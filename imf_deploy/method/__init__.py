"""The IMF method: intermediate feature distillers, attentive logit, losses, folding."""
