"""What is known of trials: plain values that every other package may hold. Nothing here decides, trains or stores."""
