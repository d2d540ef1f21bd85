"""Records of consent: what a person agreed to, who may be trained on, and what follows when somebody withdraws."""
