package androidx.activity;

public class ComponentActivity extends androidx.core.app.ComponentActivity implements androidx.lifecycle.ViewModelStoreOwner {
    public ComponentActivity() {}
    public native androidx.lifecycle.ViewModelStore getViewModelStore();
    public final native <I, O> androidx.activity.result.ActivityResultLauncher<I> registerForActivityResult(
        androidx.activity.result.contract.ActivityResultContract<I, O> contract, androidx.activity.result.ActivityResultCallback<O> callback);
}
