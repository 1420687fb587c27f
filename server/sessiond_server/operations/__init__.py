"""What can be done with a session, each in one transaction: the rules applied to what is stored."""
