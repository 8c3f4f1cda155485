"""Any Hugging Face text encoder: found, quantised, adapted by LoRA, or made from scratch."""
