"""What the model knows of a patient: one catalog, joined by time offline, served by key online."""




