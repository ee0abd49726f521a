"""OTP for Python."""
