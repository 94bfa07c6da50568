"""The archive in AWS: S3, Lambda, SSM and Cognito. Imported only when a delivery goes there."""
