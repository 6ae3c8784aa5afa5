"""The LLaMA stack, over tokens and over patches."""
