"""LoRA experts for domains: trained in stages, routed text by text, merged."""
