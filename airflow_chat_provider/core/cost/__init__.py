"""What does it cost, and how much of it is allowed?"""
